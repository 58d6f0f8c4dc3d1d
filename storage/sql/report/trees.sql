-- Some trees of a round's search, some whose first choice is right and some not, a row a step. The same each time.
-- $line, $round: the round that grew them.
-- $count: right ones, and as many others.
-- $max_steps, $max_depth: of each tree the most visited; a step's parent is visited no less, and is there too.

WITH grown AS (
    SELECT run_id, problem_id, strategy, first_solved, searches.num_tokens, num_steps, prompt
    FROM searches
    SEMI JOIN rounds USING (run_id, line, round)  -- another run may have begun the round and been left
    JOIN (SELECT problem_id, min(prompt) AS prompt FROM problems GROUP BY problem_id) USING (problem_id)
    WHERE line = $line AND round = $round AND num_steps > 0
    QUALIFY row_number() OVER (PARTITION BY first_solved ORDER BY md5(problem_id)) <= $count
)
SELECT
    problem_id, prompt, strategy, first_solved, num_steps, grown.num_tokens AS tree_tokens,
    step_id, parent_id, depth, steps.text, steps.stop_reason, visits, value, prior, is_kept, trajectories.reason
FROM grown
JOIN steps USING (run_id, problem_id, strategy)
LEFT JOIN trajectories ON steps.stop_reason <> 'step' AND trajectories.trajectory_id = steps.trajectory_id
WHERE steps.line = $line AND steps.round = $round AND depth <= $max_depth
QUALIFY row_number() OVER (PARTITION BY problem_id, strategy ORDER BY visits DESC, depth, step_id) <= $max_steps
ORDER BY first_solved DESC, md5(problem_id), strategy, visits DESC, depth, step_id

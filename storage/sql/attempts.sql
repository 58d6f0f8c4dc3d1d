-- What a policy gradient learns from: attempts at problems at which some were right and some wrong, with what was found below each of their steps.
-- $line, $round, $window: of the line's newest rounds up to this one.
-- $longest: tokens that an answer may have; a longer one was cut off and is wrong, as is one that fills the model's context.
-- $selection_id: where it has picks, of those instead.

WITH RECURSIVE picked AS (
    SELECT trajectory_id FROM picks WHERE selection_id = $selection_id
),
reserved AS (
    SELECT DISTINCT problem_id FROM problems WHERE split <> 'train'
),
made AS (
    SELECT trajectory_id, run_id, round, problem_id, checkpoint_id, strategy, token_ids, logprobs, temperature, solved
    FROM trajectories
    ANTI JOIN reserved USING (problem_id)
    WHERE line = $line
      AND len(token_ids) > 0
      AND (stop_reason = 'end' OR num_tokens >= $longest OR (stop_reason = 'length' AND strategy LIKE 'best_of_n%'))  -- others were cut off by a tree's budget, not by the policy
      AND CASE
          WHEN EXISTS (FROM picked) THEN trajectory_id IN (FROM picked)
          ELSE round BETWEEN greatest(1, $round - $window + 1) AND $round
      END
),
mixed AS (
    SELECT run_id, round, problem_id, strategy, checkpoint_id
    FROM made
    GROUP BY ALL
    HAVING bool_or(solved) AND NOT bool_and(solved)
),
learnt AS (
    SELECT * FROM made SEMI JOIN mixed USING (run_id, round, problem_id, strategy, checkpoint_id)
),
path AS (  -- from the end of an answer up to the root of its tree
    SELECT
        learnt.trajectory_id, step_id, parent_id, depth, length,
        CASE WHEN num_ends > 0 THEN num_right / num_ends END AS value
    FROM learnt
    JOIN steps USING (trajectory_id)
    WHERE rewards <> '{}'
    UNION ALL
    SELECT
        path.trajectory_id, steps.step_id, steps.parent_id, steps.depth, steps.length,
        CASE WHEN steps.num_ends > 0 THEN steps.num_right / steps.num_ends END
    FROM path
    JOIN steps ON steps.step_id = path.parent_id
),
paths AS (
    SELECT
        trajectory_id,
        list(value ORDER BY depth) AS step_values,
        list(length ORDER BY depth) FILTER (WHERE depth > 0) AS lengths
    FROM path
    GROUP BY trajectory_id
    HAVING bool_and(length IS NOT NULL) AND bool_and(value IS NOT NULL)
),
prompts AS (
    SELECT problem_id, min(prompt) AS prompt FROM problems GROUP BY problem_id
)
SELECT
    trajectory_id,
    concat_ws(' ', run_id, round, problem_id, strategy, checkpoint_id) AS attempts_at,
    prompt,
    token_ids,
    logprobs,
    temperature,
    solved,
    step_values,
    lengths,
    checkpoint_id
FROM learnt
JOIN prompts USING (problem_id)
LEFT JOIN paths USING (trajectory_id)
ORDER BY trajectory_id

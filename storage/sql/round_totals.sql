-- What a round did, summed up.
-- $line, $run_id, $round: the round.

WITH attempts AS (
    SELECT * FROM trajectories WHERE run_id = $run_id AND round = $round AND shard >= 0
),
by_problem AS (
    SELECT problem_id, bool_or(solved) AS is_solved FROM attempts GROUP BY problem_id
),
evaluated AS (
    SELECT * FROM evaluations WHERE run_id = $run_id AND round = $round
),
decided AS (  -- as it stood after the round
    SELECT trajectory_id, arg_max(kept, (round, created_at)) AS kept
    FROM selections
    WHERE line = $line AND round <= $round
    GROUP BY trajectory_id
)
SELECT
    (SELECT count(*) FROM by_problem) AS num_problems,
    (SELECT count(*) FROM attempts) AS num_trajectories,
    coalesce((SELECT avg(is_solved::INTEGER) FROM by_problem), 0) AS solved_share,
    (SELECT count(*) FROM decided WHERE kept) AS num_selected,
    (SELECT coalesce(sum(num_tokens), 0) FROM searches WHERE run_id = $run_id AND round = $round)::BIGINT
        + (SELECT coalesce(sum(num_tokens), 0) FROM evaluated)::BIGINT AS num_tokens

-- How much does search solve, by attempts and by problems?
-- Problems say what there is to train on, attempts how surely it is found; round 0 is the preflight.
WITH by_problem AS (
    SELECT round, problem_id, count(*) AS attempts, count_if(solved) AS solved
    FROM trajectories
    WHERE shard >= 0  -- what a training sampled for itself is no search
    GROUP BY run_id, round, problem_id
)
SELECT
    round,
    count(*) AS problems,
    sum(attempts)::BIGINT AS attempts,
    sum(solved) / sum(attempts) AS attempts_solved,
    avg((solved > 0)::INTEGER) AS problems_solved,
    avg((solved = attempts)::INTEGER) AS problems_always_solved
FROM by_problem
GROUP BY round
ORDER BY round

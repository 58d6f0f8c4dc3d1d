-- How much do the problems of a round teach?
-- p (1 - p) of a problem's attempts is 0.25 where half are right and 0 where all or none are: near 0 the round has
-- little to tell right from wrong by. Only mixed problems have both.
WITH by_problem AS (
    SELECT round, problem_id, avg(solved::INTEGER) AS p
    FROM trajectories
    WHERE shard >= 0  -- what a training sampled for itself is no search
    GROUP BY run_id, round, problem_id
)
SELECT
    round,
    count(*) AS problems,
    avg(p * (1 - p)) AS teaches,
    avg((p > 0 AND p < 1)::INTEGER) AS mixed,
    avg((p = 0)::INTEGER) AS never_solved,
    avg((p = 1)::INTEGER) AS always_solved
FROM by_problem
GROUP BY round
ORDER BY round

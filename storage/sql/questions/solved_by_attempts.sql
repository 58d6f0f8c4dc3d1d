-- How many problems would fewer attempts have solved?
-- Where the last doubling adds little, `search.samples` may be halved; where it adds much, more are worth their tokens.
WITH by_problem AS (
    SELECT run_id, round, problem_id, count(*) AS n, count_if(solved) AS c
    FROM trajectories
    WHERE shard >= 0  -- what a training sampled for itself is no search
    GROUP BY run_id, round, problem_id
),
most AS (
    SELECT round, max(n) AS n FROM by_problem GROUP BY round
),
budgets AS (
    SELECT unnest([1, 2, 4, 8, 16, 32, 64]) AS k
)
SELECT  -- one minus the chance that k of the n attempts are all wrong; who had enough right ones needed no more
    by_problem.round,
    budgets.k AS attempts,
    count(*) AS problems,
    avg(CASE
        WHEN by_problem.n - c < k THEN (c > 0)::INTEGER
        ELSE 1 - exp(
            lgamma(by_problem.n - c + 1) + lgamma(by_problem.n - k + 1)
            - lgamma(by_problem.n - c - k + 1) - lgamma(by_problem.n + 1)
        )
    END) AS solved
FROM by_problem
JOIN most USING (round)
JOIN budgets ON budgets.k <= most.n
GROUP BY by_problem.round, budgets.k
ORDER BY by_problem.round, budgets.k

-- How many problems would fewer attempts have solved?
-- Where the last doubling adds little, `search.samples` may be halved; where it adds much, more are worth their tokens.
WITH by_problem AS (
    SELECT round, problem_id, count(*) AS n, count_if(solved) AS c
    FROM trajectories
    GROUP BY round, problem_id
),
budgets AS (
    SELECT unnest([1, 2, 4, 8, 16, 32, 64]) AS k
)
SELECT  -- unbiased: one minus the chance that k of the n attempts are all wrong
    by_problem.round,
    budgets.k AS attempts,
    count(*) AS problems,
    avg(CASE
        WHEN n - c < k THEN 1
        ELSE 1 - exp(lgamma(n - c + 1) + lgamma(n - k + 1) - lgamma(n - c - k + 1) - lgamma(n + 1))
    END) AS solved
FROM by_problem
JOIN budgets ON budgets.k <= by_problem.n
GROUP BY by_problem.round, budgets.k
ORDER BY by_problem.round, budgets.k

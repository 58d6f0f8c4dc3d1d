-- Are right attempts shorter than wrong ones?
-- Compared within each problem that has both, so that easy problems do not decide it: below 0, right ones are shorter.
WITH by_problem AS (
    SELECT
        round,
        problem_id,
        avg(num_tokens) FILTER (WHERE solved) AS of_right,
        avg(num_tokens) FILTER (WHERE NOT solved) AS of_wrong
    FROM trajectories
    GROUP BY round, problem_id
    HAVING bool_or(solved) AND NOT bool_and(solved)
)
SELECT
    round,
    count(*) AS problems,
    avg(of_right) AS tokens_of_right,
    avg(of_wrong) AS tokens_of_wrong,
    avg(of_right - of_wrong) AS difference,
    1.96 * stddev_samp(of_right - of_wrong) / sqrt(count(*)) AS plus_or_minus
FROM by_problem
GROUP BY round
ORDER BY round

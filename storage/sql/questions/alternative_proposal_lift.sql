-- What is proposing another way worth?
-- As `self_correction_lift`, for attempts that leave a path and try another at the same problem.
WITH attempts AS (
    SELECT *, list_contains(behaviours, 'alternative_proposal') AS proposes FROM trajectories
),
by_problem AS (
    SELECT
        round,
        problem_id,
        count_if(proposes) AS attempts,
        avg(solved::INTEGER) FILTER (WHERE proposes) AS solved_with,
        avg(solved::INTEGER) FILTER (WHERE NOT proposes) AS solved_without
    FROM attempts
    GROUP BY round, problem_id
    HAVING bool_or(proposes) AND NOT bool_and(proposes)
)
SELECT
    round,
    count(*) AS problems,
    sum(attempts)::BIGINT AS attempts_with,
    avg(solved_with) AS solved_with,
    avg(solved_without) AS solved_without,
    avg(solved_with - solved_without) AS lift,
    1.96 * stddev_samp(solved_with - solved_without) / sqrt(count(*)) AS plus_or_minus
FROM by_problem
GROUP BY round
ORDER BY round

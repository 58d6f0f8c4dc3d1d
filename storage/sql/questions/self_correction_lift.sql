-- What is self-correction worth?
-- How much more often attempts that correct themselves are right than others at the same problem. No rows: no problem
-- has attempts of both kinds. A lift within plus_or_minus of 0 is no lift.
WITH attempts AS (
    SELECT *, list_contains(behaviours, 'self_correction') AS corrects FROM trajectories
),
by_problem AS (
    SELECT
        round,
        problem_id,
        count_if(corrects) AS attempts,
        avg(solved::INTEGER) FILTER (WHERE corrects) AS solved_with,
        avg(solved::INTEGER) FILTER (WHERE NOT corrects) AS solved_without
    FROM attempts
    GROUP BY round, problem_id
    HAVING bool_or(corrects) AND NOT bool_and(corrects)
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

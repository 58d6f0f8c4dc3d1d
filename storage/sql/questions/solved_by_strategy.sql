-- What does each strategy find for its tokens?
-- Strategies are fairly compared on the same problems at the same budget; any is a right answer among all attempts, first the one it would give.
SELECT
    strategy,
    round,
    count(*) AS num_problems,
    avg((num_solved > 0)::INTEGER) AS any_solved,
    avg(first_solved::INTEGER) AS first_solved,
    avg(num_tokens) AS tokens_a_problem
FROM searches
GROUP BY strategy, round
ORDER BY round, strategy

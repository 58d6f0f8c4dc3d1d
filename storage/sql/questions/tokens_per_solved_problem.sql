-- How many tokens of search does a solved problem cost?
-- It falls while the policy improves at the same problems; a rise says that they got harder, or the answers longer.
SELECT
    round,
    sum(num_tokens)::BIGINT AS tokens,
    count(*) FILTER (WHERE num_solved > 0) AS solved_problems,
    sum(num_tokens) / nullif(count(*) FILTER (WHERE num_solved > 0), 0) AS tokens_a_solved_problem
FROM searches
GROUP BY round
ORDER BY round

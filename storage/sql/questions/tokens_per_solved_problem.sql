-- How many tokens of search does a solved problem cost?
-- It falls while the policy improves at the same problems; a rise says that they got harder, or the answers longer.
SELECT
    round,
    sum(num_tokens)::BIGINT AS tokens,
    count(DISTINCT problem_id) FILTER (WHERE solved) AS solved_problems,
    sum(num_tokens) / nullif(count(DISTINCT problem_id) FILTER (WHERE solved), 0) AS tokens_a_solved_problem
FROM trajectories
GROUP BY round
ORDER BY round

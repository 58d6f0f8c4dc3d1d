-- How deep and wide do trees grow, and how much of them is written twice?
-- Of the tokens of a tree, those of duplicates are lost; a lower temperature makes more of them, and so does a sure policy.
SELECT
    strategy,
    round,
    avg(num_steps) AS steps_a_tree,
    avg(depth) AS depth,
    avg(width) AS width,
    sum(num_duplicates) / sum(num_steps + num_duplicates) AS duplicate_share
FROM searches
WHERE num_steps > 0
GROUP BY strategy, round
ORDER BY round, strategy

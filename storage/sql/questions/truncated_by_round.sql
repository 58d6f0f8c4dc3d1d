-- How many answers are cut off, in search and on the benchmark?
-- More than a few in a hundred: raise `policy.max_new_tokens`, or long answers never train.
WITH searched AS (
    SELECT round, avg((reason = 'truncated')::INTEGER) AS in_search, max(num_tokens) AS longest
    FROM trajectories
    WHERE shard >= 0  -- what a training sampled for itself is no search
    GROUP BY round
)
SELECT round, searched.in_search, searched.longest, history.truncated_share AS on_benchmark
FROM searched
FULL JOIN history USING (round)
ORDER BY round

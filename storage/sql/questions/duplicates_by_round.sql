-- How much of what is right is only said again?
-- Attempts at a problem that write what another of the same round wrote: tokens that taught nothing. Much of it asks
-- for a higher temperature or fewer samples.
SELECT
    round,
    count(*) AS solved,
    count(*) - count(DISTINCT (run_id, problem_id, text_digest)) AS duplicates,
    1 - count(DISTINCT (run_id, problem_id, text_digest)) / count(*) AS share
FROM trajectories
WHERE solved AND shard >= 0  -- what a training sampled for itself is no search
GROUP BY round
ORDER BY round

-- How much of what is right is only said again?
-- Attempts at a problem that write what another of the same round wrote: tokens that taught nothing. Much of it asks
-- for a higher temperature or fewer samples.
SELECT
    round,
    count(*) AS solved,
    count(*) - count(DISTINCT (problem_id, text_digest)) AS duplicates,
    1 - count(DISTINCT (problem_id, text_digest)) / count(*) AS share
FROM trajectories
WHERE solved
GROUP BY round
ORDER BY round

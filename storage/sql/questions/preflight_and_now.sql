-- How do the attempts before the first round compare with the last round's?
-- The preflight is the policy that the wheel began with: what changed besides the solved share, and is that wanted?
WITH lasts AS (
    SELECT max(round) AS round FROM trajectories
)
SELECT
    CASE WHEN round = 0 THEN 'preflight' ELSE 'round ' || round END AS "when",
    count(*) AS attempts,
    avg(solved::INTEGER) AS solved,
    avg((reason = 'unparsed')::INTEGER) AS unparsed,
    avg((reason = 'truncated')::INTEGER) AS truncated,
    avg(num_tokens) AS tokens,
    count(DISTINCT (problem_id, text_digest)) / count(*) AS distinct_texts
FROM trajectories
SEMI JOIN (SELECT round FROM lasts UNION SELECT 0) AS compared USING (round)
GROUP BY round
ORDER BY round

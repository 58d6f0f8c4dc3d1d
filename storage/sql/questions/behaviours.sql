-- Which reasoning behaviours show, and are attempts with them right more often?
-- That one goes with success does not say that it helps: `self_correction_lift` compares within problems.
WITH named AS (
    SELECT unnest(behaviours) AS behaviour, solved, num_tokens FROM trajectories
)
SELECT
    behaviour,
    count(*) AS attempts,
    count(*) / (SELECT count(*) FROM trajectories) AS share,
    avg(solved::INTEGER) AS solved,
    avg(num_tokens) AS tokens
FROM named
GROUP BY behaviour
ORDER BY attempts DESC, behaviour

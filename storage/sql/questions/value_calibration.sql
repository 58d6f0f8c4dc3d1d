-- Do the values of steps mean what they say?
-- Of steps valued alike, the share through which a right answer goes; of a verifier's values it is no less than the value.
WITH right_paths AS (
    SELECT DISTINCT trajectory_id FROM trajectories WHERE solved
)
SELECT
    strategy,
    least(floor(value * 10), 9) / 10 AS value_from,
    count(*) AS num_steps,
    avg(value) AS mean_value,
    avg((right_paths.trajectory_id IS NOT NULL)::INTEGER) AS solved_share
FROM steps
LEFT JOIN right_paths USING (trajectory_id)
WHERE depth > 0
GROUP BY ALL
ORDER BY ALL

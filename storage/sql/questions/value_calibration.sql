-- Do the values of steps mean what they say?
-- Of steps valued alike, the share of the different answers below them that are right; a good guide's values rise with it.
SELECT
    strategy,
    guide,
    least(floor(value * 10), 9) / 10 AS value_from,
    count(*) AS num_steps,
    avg(value) AS mean_value,
    sum(num_right) / sum(num_ends) AS right_share
FROM steps
WHERE depth > 0 AND stop_reason = 'step' AND num_ends > 0
GROUP BY ALL
ORDER BY ALL

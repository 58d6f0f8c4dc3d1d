-- What became of a line's attempts, by the round that made them: kept, or why not. Those not right have the verifier's
-- reason, for all of them are `wrong` to the filter.
-- $line, $round: as it stood after this round.

WITH decided AS (
    SELECT trajectory_id, arg_max(reason, (round, created_at)) AS reason
    FROM selections
    WHERE line = $line AND round <= $round
    GROUP BY trajectory_id
)
SELECT
    trajectories.round,
    if(decided.reason = 'wrong', trajectories.reason, decided.reason) AS reason,
    count(*) AS num_trajectories
FROM trajectories
JOIN decided USING (trajectory_id)
WHERE line = $line
GROUP BY ALL
ORDER BY ALL

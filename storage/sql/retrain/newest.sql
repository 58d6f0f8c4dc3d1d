-- What the filter keeps of the last round of which it keeps anything.
SELECT trajectory_id
FROM current_selections
JOIN trajectories USING (trajectory_id)
WHERE kept
QUALIFY trajectories.round = max(trajectories.round) OVER ()

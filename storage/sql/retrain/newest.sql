-- What the filter keeps of the last round that searched.
SELECT trajectory_id
FROM current_selections
JOIN trajectories USING (trajectory_id)
WHERE kept AND trajectories.round = (SELECT max(round) FROM trajectories)

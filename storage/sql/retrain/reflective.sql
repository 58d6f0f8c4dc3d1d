-- What the filter keeps of those that check, correct or propose another way.
SELECT trajectory_id
FROM current_selections
JOIN trajectories USING (trajectory_id)
WHERE kept AND len(behaviours) > 0

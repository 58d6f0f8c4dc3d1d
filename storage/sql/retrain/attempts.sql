-- All attempts of the last round, right and wrong: for dpo and policy gradients, which learn from both.
SELECT trajectory_id
FROM trajectories
WHERE round > 0
QUALIFY round = max(round) OVER ()

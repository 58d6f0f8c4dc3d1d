-- What a retrain trains on.
-- $selection_id: its selection.

WITH prompts AS (
    SELECT problem_id, min(prompt) AS prompt FROM problems GROUP BY problem_id
)
SELECT trajectory_id, problem_id, prompt, text, token_ids, round, behaviours, 1.0::DOUBLE AS share, coalesce(weight, 1) AS weight, checkpoint_id
FROM trajectories
JOIN (SELECT trajectory_id, weight FROM picks WHERE selection_id = $selection_id) USING (trajectory_id)
JOIN prompts USING (problem_id)
ORDER BY trajectory_id

-- Which problems was the champion trained on most, and with what?
-- What was picked for it in a retrain, else what its objective learnt from: what the filter kept up to its round, pairs,
-- or attempts (of which a gradient leaves out those at problems at which all were right or all wrong); few problems with many trajectories
-- are learnt by heart.
WITH champion AS (
    SELECT checkpoints.*
    FROM champions
    JOIN checkpoints ON checkpoints.checkpoint_id = champions.champion_id
),
decided AS (
    SELECT selections.trajectory_id, arg_max(selections.kept, (selections.round, selections.created_at)) AS kept
    FROM selections
    JOIN champion ON champion.line = selections.line AND selections.round <= champion.round
    GROUP BY selections.trajectory_id
),
picked AS (
    SELECT picks.trajectory_id FROM picks JOIN champion USING (selection_id)
),
chosen AS (
    SELECT trajectory_id FROM picked
    UNION
    SELECT trajectory_id FROM decided, champion WHERE kept AND objective = 'cloning' AND NOT EXISTS (FROM picked)
    UNION
    SELECT unnest([chosen_id, rejected_id]) FROM pairs JOIN champion USING (checkpoint_id)
    UNION
    SELECT trajectory_id
    FROM trajectories
    JOIN champion ON starts_with(trajectories.checkpoint_id, champion.checkpoint_id || '@')
    UNION
    SELECT trajectory_id
    FROM trajectories
    JOIN champion ON champion.line = trajectories.line AND shard >= 0
    WHERE objective IN ('reinforce', 'grpo', 'dr_grpo', 'dapo')
      AND (settings ->> 'on_policy_steps')::INTEGER = 0
      AND trajectories.round > champion.round - (settings ->> 'window')::INTEGER
      AND trajectories.round <= champion.round
      AND NOT EXISTS (FROM picked)
)
SELECT
    any_value(problems.question) AS question,
    count(DISTINCT trajectories.trajectory_id) AS trajectories,
    count(DISTINCT trajectories.text_digest) AS solutions,
    min(trajectories.round) AS first_round,
    arg_min(trajectories.text, (trajectories.num_tokens, trajectories.trajectory_id)) AS shortest
FROM chosen
JOIN trajectories USING (trajectory_id)
JOIN problems USING (problem_id)
GROUP BY trajectories.problem_id
ORDER BY trajectories DESC, question
LIMIT 50

-- Which problems was the champion trained on most, and with what?
-- What was picked for it in a retrain, else what its objective learnt from: what the filter kept up to its round, pairs,
-- or attempts (a gradient leaves out those at problems at which all were right or all wrong). Few problems with many
-- trajectories are learnt by heart.
WITH champion AS (
    SELECT
        checkpoints.*,
        (settings ->> 'window')::INTEGER AS num_rounds,
        objective IN ('reinforce', 'grpo', 'dr_grpo', 'dapo') AND (settings ->> 'on_policy_steps')::INTEGER = 0
            AS learns_from_attempts
    FROM champions
    JOIN checkpoints ON checkpoints.checkpoint_id = champions.champion_id
),
picked AS (
    SELECT picks.trajectory_id FROM picks JOIN champion USING (selection_id)
),
decided AS (
    SELECT selections.trajectory_id, arg_max(selections.kept, (selections.round, selections.created_at)) AS kept
    FROM selections
    JOIN champion ON champion.line = selections.line AND selections.round <= champion.round
    WHERE champion.objective = 'cloning'
    GROUP BY selections.trajectory_id
),
of_rounds AS (
    SELECT trajectory_id FROM decided WHERE kept
    UNION ALL
    SELECT trajectory_id
    FROM trajectories
    JOIN champion USING (line)
    WHERE learns_from_attempts
      AND shard >= 0
      AND trajectories.round BETWEEN champion.round - num_rounds + 1 AND champion.round
),
chosen AS (
    SELECT trajectory_id FROM picked
    UNION
    SELECT trajectory_id FROM of_rounds WHERE (SELECT count(*) FROM picked) = 0
    UNION
    SELECT unnest([chosen_id, rejected_id]) FROM pairs JOIN champion USING (checkpoint_id)
    UNION
    SELECT trajectory_id
    FROM trajectories
    JOIN champion ON split_part(trajectories.checkpoint_id, '@', 1) = champion.checkpoint_id
    WHERE shard < 0
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

-- The closed rounds of the home's line in order: the candidate on the benchmark, what search found, and who was champion
-- after it, whatever people decided meanwhile.

WITH newest AS (
    SELECT line FROM rounds ORDER BY created_at DESC, line LIMIT 1
),
benchmarked AS (  -- the gate's evaluation is the first of a candidate
    SELECT * FROM evaluations
    WHERE split = 'benchmark'
    QUALIFY row_number() OVER (PARTITION BY checkpoint_id ORDER BY created_at) = 1
),
decided AS (  -- rollbacks and retrains have the round that they came after
    SELECT line, round, arg_max(champion_id, sequence) AS champion FROM promotions GROUP BY line, round
)
SELECT
    rounds.line,
    rounds.run_id,
    rounds.round,
    rounds.candidate_id AS candidate,
    decided.champion,
    rounds.promoted,
    rounds.reason,
    rounds.num_problems AS num_searched,
    rounds.num_trajectories,
    rounds.solved_share,
    rounds.num_selected,
    rounds.seconds,
    rounds.created_at,
    candidates.accuracy,
    candidates.low,
    candidates.high,
    candidates.num_problems,
    candidates.pass_at_8,
    candidates.num_pass_problems,
    candidates.chance,
    candidates.brute_force,
    champions.accuracy AS champion_accuracy
FROM rounds
SEMI JOIN newest USING (line)
JOIN decided ON decided.line = rounds.line AND decided.round = rounds.round
JOIN benchmarked AS candidates ON candidates.checkpoint_id = rounds.candidate_id
JOIN benchmarked AS champions ON champions.checkpoint_id = decided.champion
ORDER BY rounds.round

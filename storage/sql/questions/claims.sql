-- What has come of it on the final problems, which nothing was trained or chosen on?
-- Compare the last row with the first: where their intervals do not meet, the wheel has taught the policy something.
SELECT
    evaluations.created_at,
    checkpoints.round AS made_in_round,
    checkpoints.checkpoint_id,
    evaluations.strategy,
    evaluations.accuracy,
    evaluations.low,
    evaluations.high,
    evaluations.num_problems,
    evaluations.chance
FROM evaluations
JOIN checkpoints USING (checkpoint_id)
WHERE evaluations.split = 'final'
ORDER BY checkpoints.line, made_in_round, evaluations.created_at

-- On which difficulty does the policy gain?
-- Read along a difficulty: where the easy one is full and the hard one rises, the curriculum may move on.
SELECT
    problems.difficulty,
    evaluations.round,
    count(*) AS num_problems,
    avg(outcomes.solved::INTEGER) AS accuracy
FROM outcomes
JOIN (
    SELECT evaluation_id, rounds.round
    FROM evaluations
    JOIN rounds ON candidate_id = checkpoint_id  -- of a retrain, or a run that was left, no round is
    WHERE split = 'benchmark'
    QUALIFY row_number() OVER (PARTITION BY checkpoint_id ORDER BY evaluations.created_at) = 1
) AS evaluations USING (evaluation_id)
JOIN (SELECT problem_id, min(difficulty) AS difficulty FROM problems GROUP BY problem_id) AS problems USING (problem_id)
WHERE outcomes.sample = 0
GROUP BY problems.difficulty, evaluations.round
ORDER BY problems.difficulty, evaluations.round

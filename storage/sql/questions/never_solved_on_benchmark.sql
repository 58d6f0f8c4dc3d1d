-- Which benchmark problems has no checkpoint ever solved?
-- They bound what the accuracy can reach; look whether they are of one kind, or wrong in themselves.
SELECT
    problems.question,
    problems.difficulty,
    count(DISTINCT evaluations.checkpoint_id) AS checkpoints,
    mode(outcomes.reason) AS usual_reason
FROM outcomes
JOIN evaluations USING (evaluation_id)
JOIN problems USING (problem_id)
WHERE evaluations.split = 'benchmark'
GROUP BY problems.problem_id, problems.question, problems.difficulty
HAVING NOT bool_or(outcomes.solved)
ORDER BY checkpoints DESC, problems.question

-- Which problems are tried most often and never solved?
-- The policy gets nothing from them: too hard yet, or no right answer is accepted. The usual reason tells which.
SELECT
    problems.question,
    problems.difficulty,
    count(*) AS attempts,
    count(DISTINCT trajectories.round) AS rounds,
    mode(trajectories.reason) AS usual_reason
FROM trajectories
JOIN (SELECT DISTINCT problem_id, question, difficulty FROM problems) AS problems USING (problem_id)
GROUP BY trajectories.problem_id, problems.question, problems.difficulty
HAVING NOT bool_or(trajectories.solved)
ORDER BY attempts DESC, problems.question
LIMIT 50

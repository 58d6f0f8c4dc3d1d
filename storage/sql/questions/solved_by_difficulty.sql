-- How much is solved in training, by difficulty?
-- Problems between one and nine of ten solved teach most; a difficulty that is always solved may leave the curriculum.
SELECT
    problems.difficulty,
    trajectories.round,
    count(DISTINCT trajectories.problem_id) AS problems,
    count(*) AS attempts,
    avg(trajectories.solved::INTEGER) AS solved,
    avg(trajectories.num_tokens) AS tokens
FROM trajectories
JOIN (SELECT problem_id, min(difficulty) AS difficulty FROM problems GROUP BY problem_id) AS problems USING (problem_id)
GROUP BY problems.difficulty, trajectories.round
ORDER BY problems.difficulty, trajectories.round

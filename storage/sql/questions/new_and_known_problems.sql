-- Are problems chosen again worth their tokens beside new ones?
-- The known ones were picked for what they still teach: they should be solved less surely than new ones and mixed more
-- often. Where they are not, `curriculum.new_share` may rise.
WITH by_problem AS (
    SELECT
        draws.round,
        draws.is_new,
        draws.problem_id,
        avg(trajectories.solved::INTEGER) AS p
    FROM draws
    JOIN trajectories USING (run_id, round, problem_id)
    GROUP BY draws.round, draws.is_new, draws.problem_id
)
SELECT
    round,
    is_new,
    count(*) AS problems,
    avg(p) AS solved,
    avg((p > 0 AND p < 1)::INTEGER) AS mixed,
    avg(p * (1 - p)) AS teaches
FROM by_problem
GROUP BY round, is_new
ORDER BY round, is_new

-- Has a benchmark or final problem ever been trained on?
-- Every number must be 0. What policy gradients learn from is among what was `searched`. `same_question` counts train problems that ask word for word what a reserved one asks.
WITH reserved AS (
    SELECT DISTINCT problem_id, question FROM problems WHERE split IN ('benchmark', 'final')
),
trained AS (
    SELECT DISTINCT trajectories.problem_id
    FROM trajectories
    SEMI JOIN (
        SELECT trajectory_id FROM selections WHERE kept
        UNION
        SELECT trajectory_id FROM picks
        UNION
        SELECT unnest([chosen_id, rejected_id]) FROM pairs
    ) AS chosen USING (trajectory_id)
)
SELECT
    (
        SELECT count(*) FROM (
            SELECT problem_id FROM problems WHERE split <> 'train' GROUP BY problem_id HAVING count(DISTINCT split) > 1
        )
    ) AS reserved_twice,
    (SELECT count(*) FROM reserved SEMI JOIN trajectories USING (problem_id)) AS searched,
    (SELECT count(*) FROM reserved SEMI JOIN trained USING (problem_id)) AS trained_on,
    (SELECT count(*) FROM problems SEMI JOIN reserved USING (question) WHERE split = 'train') AS same_question

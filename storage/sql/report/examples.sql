-- Some attempts of a round, right and wrong, each at another problem; one of each reason first. The same each time.
-- $line, $round: the round that made them.
-- $count: right ones, and as many wrong ones.

WITH attempts AS (
    SELECT trajectory_id, problem_id, text, solved, reason, num_tokens
    FROM trajectories
    WHERE line = $line AND round = $round
    QUALIFY row_number() OVER (PARTITION BY solved, problem_id ORDER BY md5(trajectory_id)) = 1
),
decided AS (
    SELECT trajectory_id, arg_max(reason, (round, created_at)) AS decision
    FROM selections
    SEMI JOIN attempts USING (trajectory_id)
    WHERE line = $line AND round <= $round
    GROUP BY trajectory_id
),
ranked AS (
    SELECT *, row_number() OVER (PARTITION BY solved, reason, decision ORDER BY md5(trajectory_id)) AS place
    FROM attempts
    LEFT JOIN decided USING (trajectory_id)
),
chosen AS (
    SELECT *, row_number() OVER (PARTITION BY solved ORDER BY place > 1, md5(trajectory_id)) AS turn
    FROM ranked
    QUALIFY turn <= $count
),
prompts AS (
    SELECT problem_id, min(prompt) AS prompt FROM problems SEMI JOIN chosen USING (problem_id) GROUP BY problem_id
)
SELECT $round AS round, prompt, text, solved, reason, decision, num_tokens
FROM chosen
JOIN prompts USING (problem_id)
ORDER BY solved DESC, turn

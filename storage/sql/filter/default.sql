-- Which trajectories train: the decisions of a round that are new or changed.
-- $line, $round: trajectories of the line made up to this round are decided on.
-- $selection_id: the selection that is made; its own decisions, where it is made again, are none before it.
-- $max_per_problem: most solutions of one problem that are kept.
-- $balance: most that one difficulty gives, as a multiple of its even share.

WITH made AS (
    SELECT trajectory_id, problem_id, round, solved, text_digest, answer, behaviours, num_tokens
    FROM trajectories
    WHERE line = $line AND round <= $round
),
reserved AS (
    SELECT DISTINCT problem_id FROM problems WHERE split <> 'train'
),
difficulties AS (
    SELECT problem_id, min(difficulty) AS difficulty FROM problems GROUP BY problem_id
),
right_ones AS (  -- the first of each text goes on, so that decisions are stable
    SELECT made.*, row_number() OVER (PARTITION BY problem_id, text_digest ORDER BY round, trajectory_id) AS copy
    FROM made
    ANTI JOIN reserved USING (problem_id)
    WHERE solved
),
alike AS (  -- the shorter first, but only among those that reason alike
    SELECT *, row_number() OVER (
        PARTITION BY problem_id, answer, list_sort(behaviours) ORDER BY num_tokens, round DESC, trajectory_id
    ) AS place_alike
    FROM right_ones
    WHERE copy = 1
),
solutions AS (
    SELECT *, row_number() OVER (
        PARTITION BY problem_id, answer ORDER BY place_alike, round DESC, trajectory_id
    ) AS place_of_answer
    FROM alike
),
ranked AS (  -- distinct solutions first
    SELECT *, row_number() OVER (
        PARTITION BY problem_id ORDER BY place_of_answer, place_alike, round DESC, trajectory_id
    ) AS place
    FROM solutions
),
eligible AS (
    SELECT trajectory_id, difficulty, row_number() OVER (PARTITION BY difficulty ORDER BY md5(trajectory_id)) AS turn
    FROM ranked
    LEFT JOIN difficulties USING (problem_id)
    WHERE place <= $max_per_problem
),
even_share AS (
    SELECT count(*) / count(DISTINCT difficulty) AS size FROM eligible
),
decided AS (
    SELECT
        trajectory_id,
        CASE
            WHEN reserved.problem_id IS NOT NULL THEN 'reserved'
            WHEN NOT made.solved THEN 'wrong'
            WHEN ranked.trajectory_id IS NULL THEN 'duplicate'
            WHEN eligible.trajectory_id IS NULL THEN 'over_limit'
            WHEN turn > $balance * size THEN 'unbalanced'
            ELSE 'kept'
        END AS reason
    FROM made
    LEFT JOIN reserved USING (problem_id)
    LEFT JOIN ranked USING (trajectory_id)
    LEFT JOIN eligible USING (trajectory_id)
    CROSS JOIN even_share
),
before AS (  -- a run that was left may have decided in this round
    SELECT trajectory_id, arg_max(reason, (round, created_at)) AS reason
    FROM selections
    WHERE line = $line AND round <= $round AND selection_id <> $selection_id
    GROUP BY trajectory_id
)
SELECT trajectory_id, decided.reason = 'kept' AS kept, decided.reason
FROM decided
LEFT JOIN before USING (trajectory_id)
WHERE decided.reason IS DISTINCT FROM before.reason
ORDER BY trajectory_id

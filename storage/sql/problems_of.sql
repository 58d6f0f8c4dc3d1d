-- Problems of a split, one row each, in the order of the source's stream.
-- $split: train, development, benchmark or final.
SELECT *
FROM problems
WHERE split = $split
QUALIFY row_number() OVER (PARTITION BY problem_id ORDER BY created_at) = 1
ORDER BY position, problem_id

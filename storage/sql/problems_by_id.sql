-- Problems by id, one row each.
-- $ids: the ids.
SELECT *
FROM problems
WHERE problem_id IN (SELECT unnest($ids))
QUALIFY row_number() OVER (PARTITION BY problem_id ORDER BY created_at) = 1

-- Problems at which some attempts were right and some wrong, which teach the most.
-- $line, $round, $window: in the line's newest rounds up to this one.
-- $longest: tokens that an answer may have; what a tree's is shorter and did not end was cut off by its budget.
-- $selection_id: where it has picks, among those instead.

WITH picked AS (
    SELECT trajectory_id FROM picks WHERE selection_id = $selection_id
),
made AS (
    SELECT problem_id, solved
    FROM trajectories
    WHERE line = $line
      AND (stop_reason = 'end' OR num_tokens >= $longest OR (stop_reason = 'length' AND strategy LIKE 'best_of_n%'))
      AND CASE
          WHEN EXISTS (FROM picked) THEN trajectory_id IN (FROM picked)
          ELSE round BETWEEN greatest(1, $round - $window + 1) AND $round
      END
),
reserved AS (
    SELECT DISTINCT problem_id FROM problems WHERE split <> 'train'
)
SELECT problem_id
FROM made
ANTI JOIN reserved USING (problem_id)
GROUP BY problem_id
HAVING bool_or(solved) AND NOT bool_and(solved)
ORDER BY problem_id

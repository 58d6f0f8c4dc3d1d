-- What the line's last round with budgets of its own might have spent, and spent: attempts or tokens.
-- $line, $round: of the rounds before this one.

WITH planned AS (
    SELECT run_id, round, sum(budget) AS planned
    FROM draws
    SEMI JOIN rounds USING (run_id, round)  -- one that was left, and done by a later run, saved nothing
    WHERE line = $line AND round < $round AND budget > 0
    GROUP BY run_id, round
    ORDER BY round DESC
    LIMIT 1
)
SELECT
    coalesce(any_value(planned), 0)::BIGINT AS planned,
    coalesce(sum(CASE WHEN starts_with(strategy, 'best_of_n') THEN num_attempts ELSE num_tokens END), 0)::BIGINT AS spent
FROM planned
LEFT JOIN searches USING (run_id, round)

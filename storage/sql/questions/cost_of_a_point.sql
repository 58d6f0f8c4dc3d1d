-- What does a point of accuracy cost, in time and tokens, as the rounds go on?
-- A point is a hundredth; the gain is over the best candidate before, and where there is none the round bought nothing.
WITH gains AS (
    SELECT
        *,
        100 * (accuracy - max(accuracy) OVER (
            PARTITION BY line ORDER BY round ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        )) AS points
    FROM history
)
SELECT
    round,
    points,
    seconds,
    tokens,
    CASE WHEN points > 0 THEN seconds / points END AS seconds_a_point,
    CASE WHEN points > 0 THEN tokens / points END AS tokens_a_point
FROM gains
WHERE round > 0
ORDER BY line, round

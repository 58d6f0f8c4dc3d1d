-- How long does it take from one champion to the next?
-- Longer and longer is the plateau drawing near; rollbacks count, for they change the champion too.
SELECT
    sequence,
    round,
    verdict,
    created_at,
    date_diff('second', lag(created_at) OVER (PARTITION BY line ORDER BY sequence), created_at) AS seconds
FROM promotions
WHERE champion_id <> previous_id
ORDER BY line, sequence

-- How many of a line's last rounds were refused without a promotion between.
-- $line: the line.

SELECT count(*) AS n
FROM rounds
WHERE line = $line
    AND NOT promoted
    AND round > coalesce(  -- a retrain's promotion too, which is of the round before it
        (SELECT max(round) FROM promotions WHERE line = $line AND verdict IN ('initial', 'promoted')), -1
    )

-- How many of a line's last rounds were refused without a promotion between.
-- $line: the line.

SELECT count(*) AS n
FROM rounds
WHERE line = $line
    AND NOT promoted
    AND round > coalesce((SELECT max(round) FROM rounds WHERE line = $line AND promoted), -1)

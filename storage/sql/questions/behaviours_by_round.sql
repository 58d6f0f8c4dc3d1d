-- Does training make a behaviour more frequent?
-- What verified attempts show more often than others grows from round to round, wanted or not.
WITH named AS (
    SELECT round, unnest(behaviours) AS behaviour FROM trajectories
),
rounds AS (
    SELECT round, count(*) AS attempts FROM trajectories GROUP BY round
)
SELECT named.behaviour, named.round, count(*) / any_value(rounds.attempts) AS share
FROM named
JOIN rounds USING (round)
GROUP BY named.behaviour, named.round
ORDER BY named.behaviour, named.round

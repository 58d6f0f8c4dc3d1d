-- Known train problems to search again, weighted by what they teach, drawn without replacement.
-- $line, $round: by the line's attempts in the rounds before this one.
-- $seed: of the draw; the same for the same seed, round and history.
-- $fade: what an attempt still counts after each change of champion since the round that made it.
-- $count: problems drawn.

WITH pool AS (
    SELECT problem_id, min(difficulty) AS difficulty
    FROM problems
    GROUP BY problem_id
    HAVING bool_and(split = 'train')
),
tallies AS (
    SELECT round, problem_id, count_if(solved) AS solved, count_if(NOT solved) AS failed
    FROM trajectories
    WHERE line = $line AND round < $round AND shard >= 0  -- by champions, not by what a training came through
    GROUP BY round, problem_id
),
changes AS (  -- of champion; those of a round come after its search
    SELECT round FROM promotions
    WHERE line = $line AND round < $round AND verdict <> 'initial' AND champion_id <> previous_id
),
counts AS (  -- what an attempt of a round still counts
    SELECT made.round, $fade ** count(changes.round) AS worth
    FROM (SELECT DISTINCT round FROM tallies) AS made
    LEFT JOIN changes ON changes.round >= made.round
    GROUP BY made.round
),
posteriors AS (
    SELECT problem_id, 1 + sum(worth * solved) AS a, 1 + sum(worth * failed) AS b
    FROM tallies
    JOIN counts USING (round)
    GROUP BY problem_id
),
seen AS (  -- E[p (1 − p)] under Beta(a, b), and 1 / E[p]
    SELECT problem_id, difficulty, a * b / ((a + b) * (a + b + 1)) AS teaches, (a + b) / a AS attempts  -- for a right one
    FROM pool
    JOIN posteriors USING (problem_id)
),
averages AS (
    SELECT difficulty, avg(teaches) AS teaches FROM seen GROUP BY difficulty
),
weighted AS (  -- a problem never tried teaches as its difficulty does; with nothing tried all teach alike
    SELECT
        problem_id,
        coalesce(seen.teaches, averages.teaches, (SELECT avg(teaches) FROM seen), 1) AS teaches,
        attempts / (SELECT avg(attempts) FROM seen) AS need
    FROM pool
    LEFT JOIN seen USING (problem_id)
    LEFT JOIN averages ON averages.difficulty = pool.difficulty
),
chances AS (  -- 52 bits of MD5 as a number between 0 and 1, the same in every version of DuckDB
    SELECT *, (('0x' || left(md5(concat_ws('|', $seed, $round, problem_id)), 13))::BIGINT + 0.5) / 2 ** 52 AS chance
    FROM weighted
)
SELECT problem_id, teaches, need
FROM chances
ORDER BY ln(chance) / teaches DESC, problem_id  -- Efraimidis and Spirakis, https://doi.org/10.1016/j.ipl.2005.11.003
LIMIT $count

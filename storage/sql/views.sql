-- Views of what the tables leave to be worked out. The tables, and comments on columns of current_*, are warehouse.py's.

CREATE VIEW current_runs AS
SELECT * FROM runs
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY created_at DESC) = 1;

COMMENT ON VIEW current_runs IS 'Each run as it stands: its last row.';

CREATE VIEW current_selections AS
SELECT * FROM selections
QUALIFY row_number() OVER (PARTITION BY trajectory_id ORDER BY round DESC, created_at DESC) = 1;

COMMENT ON VIEW current_selections IS 'What is decided on each trajectory: its last decision.';

CREATE VIEW champions AS
SELECT line, arg_max(champion_id, sequence) AS champion_id, max(sequence) AS sequence
FROM promotions
GROUP BY line;

COMMENT ON VIEW champions IS 'Who is champion of each line, by its last promotion.';
COMMENT ON COLUMN champions.line IS 'The line.';
COMMENT ON COLUMN champions.champion_id IS 'The checkpoint that search samples from.';
COMMENT ON COLUMN champions.sequence IS 'The decision that says so.';

CREATE VIEW history AS
WITH benchmarked AS (  -- the gate's evaluation is the first of a candidate
    SELECT * FROM evaluations
    WHERE split = 'benchmark'
    QUALIFY row_number() OVER (PARTITION BY checkpoint_id ORDER BY created_at) = 1
)
SELECT
    rounds.round,
    rounds.line,
    rounds.candidate_id AS candidate,
    rounds.champion_id AS champion,
    benchmarked.accuracy,
    benchmarked.low,
    benchmarked.high,
    benchmarked.num_problems,
    rounds.promoted,
    rounds.reason,
    rounds.seconds,
    rounds.num_tokens AS tokens,
    benchmarked.pass_at_8,
    benchmarked.mean_tokens,
    benchmarked.truncated_share,
    benchmarked.entropy,
    benchmarked.chance,
    benchmarked.brute_force
FROM rounds
LEFT JOIN benchmarked ON benchmarked.checkpoint_id = rounds.candidate_id
ORDER BY rounds.line, rounds.round;

COMMENT ON VIEW history IS 'One row a round: its candidate on the benchmark, and whether it took over.';
COMMENT ON COLUMN history.round IS 'The round; 0 is the initial policy.';
COMMENT ON COLUMN history.line IS 'The line.';
COMMENT ON COLUMN history.candidate IS 'The checkpoint the round made.';
COMMENT ON COLUMN history.champion IS 'The champion after the round.';
COMMENT ON COLUMN history.accuracy IS 'Share of the benchmark the candidate solves with its first answer.';
COMMENT ON COLUMN history.low IS 'Lower end of the 95 % interval of the accuracy.';
COMMENT ON COLUMN history.high IS 'Upper end of it.';
COMMENT ON COLUMN history.num_problems IS 'Benchmark problems asked.';
COMMENT ON COLUMN history.promoted IS 'Whether the candidate took over.';
COMMENT ON COLUMN history.reason IS 'Why, or why not, in a sentence.';
COMMENT ON COLUMN history.seconds IS 'Wall seconds of the round, those before a stop not counted.';
COMMENT ON COLUMN history.tokens IS 'Tokens generated for search and evaluation.';
COMMENT ON COLUMN history.pass_at_8 IS 'Unbiased pass@8 of samples at temperature 1, over fewer problems.';
COMMENT ON COLUMN history.mean_tokens IS 'Mean tokens of an answer.';
COMMENT ON COLUMN history.truncated_share IS 'Share of answers cut off at the token limit.';
COMMENT ON COLUMN history.entropy IS 'Mean -log p of sampled tokens at temperature 1, nats a token.';
COMMENT ON COLUMN history.chance IS 'Solved by uniform legal play on the same problems (Countdown).';
COMMENT ON COLUMN history.brute_force IS 'Mean complete walks that trying everything in order needs (Countdown).';

-- Where does the time of a round go?
-- Shares of the round's wall time; what no stage accounts for is orchestration.
SELECT
    rounds.round,
    stage.key AS stage,
    stage.value::DOUBLE AS seconds,
    stage.value::DOUBLE / rounds.seconds AS share
FROM rounds, json_each(rounds.stage_seconds) AS stage
ORDER BY rounds.line, rounds.round, seconds DESC

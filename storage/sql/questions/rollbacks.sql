-- When was a promotion taken back, by whom, and why?
-- No rows: never. The gate never does it; a person saw something that the benchmark does not measure.
SELECT sequence, round, created_at, decided_by, reason, previous_id AS from_checkpoint, champion_id AS to_checkpoint
FROM promotions
WHERE verdict = 'rolled_back'
ORDER BY line, sequence

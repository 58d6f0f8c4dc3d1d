-- What is there to ask about: each column of each table and view, in order.
SELECT
    views.view_name AS "table",
    views.comment AS about,
    columns.column_name AS "column",
    columns.data_type AS type,
    columns.comment AS text
FROM duckdb_columns() AS columns
JOIN duckdb_views() AS views ON views.view_oid = columns.table_oid
WHERE NOT views.internal
ORDER BY views.view_oid, columns.column_index

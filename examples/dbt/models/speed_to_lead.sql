select
    day,
    count(*) as leads,
    count(followed_up_at) as followed_up,
    count(*) filter (where seconds_to_followup <= 60) as within_a_minute,
    percentile_cont(0.5) within group (order by seconds_to_followup) as median_seconds,
    percentile_cont(0.9) within group (order by seconds_to_followup) as p90_seconds
from {{ ref('journeys') }}
group by day

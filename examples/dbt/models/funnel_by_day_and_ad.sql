-- The view is by Page too, and a title may have changed within a day.
with summed as (
    select
        day,
        coalesce(ad_id, 'no ad') as ad_id,
        max(ad_title) as ad_title,
        sum(leads) as leads,
        sum(complete) as complete,
        sum(answered) as answered,
        sum(followed_up) as followed_up,
        sum(read) as read,
        sum(replied) as replied
    from {{ source('leadstream', 'lead_funnel') }}
    group by day, coalesce(ad_id, 'no ad')
)

select
    cast(day as varchar) || ' ' || ad_id as day_and_ad,
    *,
    1.0 * complete / leads as complete_rate,
    1.0 * followed_up / leads as followed_up_rate,
    1.0 * replied / nullif(followed_up, 0) as reply_rate
from summed

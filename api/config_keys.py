"""Keys that configs of such proxies hold and that have no effect here: they are warned about, not refused.

A config can so be brought over as it is, and what it will not do is said with file and line. Collected by hand from
LiteLLM's documentation, and not complete: a key that is missing here is refused, which is the safe side. Keys that are
honoured are not listed; the loaders ask for them by name.
"""


def _keys(text: str) -> frozenset[str]:
    return frozenset(text.split())


TOP_LEVEL_NOT_HONOURED = _keys(
    """
    environment_variables credential_list guardrails mcp_servers mcp_aliases callback_settings vector_store_registry
    prompts include files_settings finetune_settings assistant_settings search_tools agent_list policies
    worker_registry default_vertex_config model_group_settings pass_through_endpoints
    """
)

PARAMS_NOT_HONOURED = _keys(
    """
    additional_drop_params allowed_openai_params api_version aws_access_key_id aws_region_name aws_secret_access_key
    azure_ad_token base_model budget_duration cache_control_injection_points configurable_clientside_auth_params
    custom_llm_provider default_headers drop_params extra_body extra_headers frequency_penalty guardrails headers
    litellm_credential_name litellm_trace_id max_budget max_completion_tokens max_file_size_mb max_output_tokens
    max_parallel_requests max_retries max_tokens merge_reasoning_content_in_choices metadata mock_testing_fallbacks
    model_info num_retries organization parallel_tool_calls presence_penalty project reasoning reasoning_effort
    region_name response_format seed service_tier ssl_verify stop stream stream_options tags temperature tpd
    tool_choice tools top_p use_in_pass_through use_litellm_proxy user verbosity vertex_credentials vertex_location
    vertex_project watsonx_region_name
    """
)

PRICE_PREFIXES_NOT_HONOURED = (
    "input_cost_per_",
    "output_cost_per_",
    "cache_read_input_token_cost_",
    "cache_creation_input_token_cost_",
    "cache_read_input_audio_token_cost",
    "search_context_cost_per_query",
    "code_interpreter_cost_per_session",
    "regional_processing_uplift_multiplier_",
    "tiered_pricing",
)
"""Price keys for what no config price covers here: tiers, thresholds, audio, images, seconds, tools."""

MODEL_INFO_NOT_HONOURED = _keys(
    """
    access_groups base_model created_at created_by db_model description health_check_model health_check_timeout
    health_check_max_tokens litellm_provider max_input_tokens max_output_tokens max_tokens metadata mode
    output_vector_size supported_endpoints supported_environments supports_audio_input supports_audio_output
    supports_computer_use supports_function_calling supports_native_streaming supports_parallel_function_calling
    supports_pdf_input supports_prompt_caching supports_reasoning supports_response_schema supports_system_messages
    supports_tool_choice supports_vision supports_web_search team_id team_public_model_name tier updated_at
    updated_by version disable_background_health_check
    """
)

GENERAL_NOT_HONOURED = _keys(
    """
    accounting_capture alert_to_webhook_url alert_types alerting alerting_args alerting_threshold
    allow_client_side_credentials allow_requests_on_db_unavailable allow_user_auth allowed_ips allowed_routes
    admin_only_routes always_include_stream_usage background_health_checks block_robots cancel_on_disconnect
    completion_model control_plane_url custom_auth custom_key_generate custom_sso custom_ui_sso_sign_in_handler
    database_connection_pool_limit database_connection_timeout database_type dynamodb_args
    disable_adding_master_key_hash_to_db disable_budget_reservation disable_error_logs disable_master_key_return
    disable_prisma_schema_update disable_reset_budget disable_responses_id_security
    disable_retry_on_max_parallel_request_limit_error disable_spend_logs disable_spend_updates
    enable_health_check_routing enable_jwt_auth enable_oauth2_auth enforce_rbac enforce_user_param enforced_params
    fail_closed_budget_enforcement forward_client_headers_to_llm_api forward_llm_provider_auth_headers
    forward_openai_org_id global_max_parallel_requests google_kms_key_management_settings health_check_concurrency
    health_check_details health_check_interval infer_model_from_keys key_management_settings key_management_system
    litellm_jwtauth litellm_key_header_name max_parallel_requests max_response_size_mb
    maximum_spend_logs_retention_interval maximum_spend_logs_retention_period maximum_spend_logs_size
    pass_through_endpoints plugin_directory_url proxy_batch_polling_interval proxy_batch_write_at
    proxy_budget_rescheduler_max_time proxy_budget_rescheduler_min_time proxy_config_reload_interval public_routes
    role_permissions service_account_settings spend_capture_rate_check spend_report_frequency store_model_in_db
    store_prompts_in_spend_logs supported_db_objects token_rate_limit_type ui_access_mode url_validation
    use_azure_key_vault use_google_kms use_redis_transaction_buffer use_shared_health_check
    use_spend_logs_partitioning use_x_forwarded_for user_header_mappings user_header_name user_mcp_management_mode
    """
)

ROUTER_NOT_HONOURED = _keys(
    """
    allowed_fails allowed_fails_policy alerting_config assistants_config cache_kwargs cache_responses caching_groups
    client_ttl content_policy_fallbacks context_window_fallbacks cooldown_time debug_level default_litellm_params
    default_max_parallel_requests default_priority deployment_affinity_ttl_seconds disable_cooldowns
    enable_health_check_routing enable_pre_call_checks enable_tag_filtering enable_weighted_failover
    model_group_affinity_config model_group_alias model_group_retry_policy optional_pre_call_checks polling_interval
    provider_budget_config redis_db redis_host redis_password redis_port redis_url request_timeout retry_policy
    router_general_settings routing_groups routing_strategy_args search_tools set_verbose stream_timeout timeout
    tag_filtering_match_any
    """
)

LLM_NOT_HONOURED = _keys(
    """
    add_function_to_prompt additional_drop_params aiohttp_trust_env allowed_fails anonymize audit_log_callbacks
    budget_duration cache cache_params callbacks content_policy_fallbacks context_window_fallbacks cost_discount_config
    cost_margin_config custom_provider_map datadog_params default_end_user_budget_id default_internal_user_params
    default_key_generate_params default_team_params default_team_settings disable_copilot_system_to_assistant
    disable_end_user_cost_tracking disable_end_user_cost_tracking_prometheus_only disable_hf_tokenizer_download
    disable_streaming_logging drop_params_list enable_end_user_cost_tracking_prometheus_only
    enable_json_schema_validation enable_preview_features failure_callback force_ipv4
    forward_traceparent_to_llm_provider global_disable_no_log_param guardrails include_cost_in_streaming_usage
    key_generation_settings langfuse_default_tags language_model_logging max_budget max_end_user_budget
    max_end_user_budget_id max_internal_user_budget max_parallel_requests max_ui_session_budget mcp_aliases
    model_alias_map modify_params network_mock post_call_rules prometheus_initialize_budget_metrics
    prometheus_metrics_config public_model_groups redact_messages_in_exceptions redact_user_api_key_info
    responses_api_client_kwargs return_response_headers route_all_chat_openai_to_responses s3_callback_params
    service_callback set_verbose ssl_certificate ssl_ecdh_curve ssl_security_level ssl_verify store_audit_logs
    success_callback tag_budget_config telemetry turn_off_message_logging upperbound_key_generate_params
    user_url_validation
    """
)

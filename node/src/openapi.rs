//! The OpenAPI 3.1 document, made from the table of routes and the schemas of the JSON types.
//! Nothing here is written by hand that the code already knows.

use std::collections::BTreeMap;

use utoipa::{
    ToSchema,
    openapi::{
        ComponentsBuilder, ContentBuilder, Header, HeaderBuilder, HttpMethod, InfoBuilder, LicenseBuilder, OpenApi,
        OpenApiBuilder, PathsBuilder, Ref, RefOr, Required, ResponseBuilder,
        path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem},
        request_body::RequestBodyBuilder,
        schema::{ObjectBuilder, Schema, SchemaType, Type},
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};

use crate::http::{
    json::ErrorBody,
    request_id::{GIVEN_MAX, REQUEST_ID},
    routes::{Access, Answer, ROUTES, Route},
};

/// The named schemas that the document refers to.
#[derive(Default)]
pub struct Schemas(BTreeMap<String, RefOr<Schema>>);

impl std::fmt::Debug for Schemas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Schemas {
    /// Adds a type with everything it refers to.
    pub fn add<T: ToSchema>(&mut self) -> Ref {
        let mut inner = Vec::new();
        T::schemas(&mut inner);
        self.0.extend(inner);
        let name = T::name().into_owned();
        self.0.insert(name.clone(), T::schema());
        Ref::from_schema_name(name)
    }
}

const DESCRIPTION: &str = "Amounts are integers in minor units (1000 is 10.00), prices are decimal odds in \
    hundredths (350 is 3.50), times are milliseconds since the Unix epoch. Calls that move money take a `reference`: \
    the same reference gives the first call's answer again, however often it is sent and through whichever node, \
    until its market is final; from then on orders there are refused with `MARKET_FINAL`.";

/// The whole document.
pub fn document() -> OpenApi {
    let mut schemas = Schemas::default();
    let error = schemas.add::<ErrorBody>();
    let mut paths = PathsBuilder::new();
    for route in ROUTES {
        let method = match route.method.as_str() {
            "GET" => HttpMethod::Get,
            "PUT" => HttpMethod::Put,
            "DELETE" => HttpMethod::Delete,
            _ => HttpMethod::Post,
        };
        paths = paths.path(route.path, PathItem::new(method, operation(route, &mut schemas, &error)));
    }
    let mut components =
        ComponentsBuilder::new().security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    components = components.parameter(REQUEST_ID.as_str(), request_id()).header(REQUEST_ID.as_str(), answered_id());
    for (name, schema) in schemas.0 {
        components = components.schema(name, schema);
    }
    let info = InfoBuilder::new()
        .title("Stakehold")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(LicenseBuilder::new().name("MIT OR Apache-2.0").build()))
        .build();
    OpenApiBuilder::new().info(info).paths(paths.build()).components(Some(components.build())).build()
}

fn operation(route: &Route, schemas: &mut Schemas, error: &Ref) -> OperationBuilder {
    let mut operation = OperationBuilder::new().operation_id(Some(route.name)).summary(Some(route.summary));
    for name in route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        operation = operation.parameter(number(name, ParameterIn::Path, Required::True));
    }
    for (name, meaning) in route.query {
        let parameter = number(name, ParameterIn::Query, Required::False);
        operation = operation.parameter(parameter.description(Some(*meaning)));
    }
    for (name, meaning) in route.headers {
        let parameter = number(name, ParameterIn::Header, Required::False);
        operation = operation.parameter(parameter.description(Some(*meaning)));
    }
    operation = operation.parameter_ref(Ref::new(format!("#/components/parameters/{REQUEST_ID}")));
    if let Some(body) = route.body {
        let content = ContentBuilder::new().schema(Some(body(schemas))).build();
        operation =
            operation.request_body(Some(RequestBodyBuilder::new().content("application/json", content).build()));
    }
    let (status, content, media) = match route.answer {
        Answer::Json(status, shape) => (status, ContentBuilder::new().schema(Some(shape(schemas))), "application/json"),
        Answer::Events(shape) => (200, ContentBuilder::new().schema(Some(shape(schemas))), "text/event-stream"),
        Answer::Text(media) => (200, ContentBuilder::new(), media),
    };
    let named = |response: ResponseBuilder| {
        response.header_ref(REQUEST_ID.as_str(), Ref::new(format!("#/components/headers/{REQUEST_ID}"))).build()
    };
    let success = ResponseBuilder::new().description("Done").content(media, content.build());
    operation = operation.response(status.to_string(), named(success));
    let content = ContentBuilder::new().schema(Some(error.clone())).build();
    let failure = ResponseBuilder::new().description("Not done").content("application/json", content);
    operation = operation.response("default", named(failure));
    let scopes: [&str; 0] = [];
    match route.access {
        Access::Public => operation,
        Access::Token => operation.security(SecurityRequirement::new("token", scopes)),
        Access::Operator => operation
            .security(SecurityRequirement::new("token", scopes))
            .description(Some("Needs the operator's token.")),
    }
}

fn number(name: &str, place: ParameterIn, required: Required) -> ParameterBuilder {
    let schema = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer)).minimum(Some(0));
    ParameterBuilder::new().name(name).parameter_in(place).required(required).schema(Some(schema))
}

/// What a caller may call its request.
fn request_id() -> Parameter {
    let text = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).max_length(Some(GIVEN_MAX));
    let meaning = "Names the request, in visible ASCII; the server names it if it is left out. Sixteen hex digits \
        are in the server's log as they are.";
    ParameterBuilder::new()
        .name(REQUEST_ID.as_str())
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(meaning))
        .schema(Some(text))
        .build()
}

/// What every answer says its request was called.
fn answered_id() -> Header {
    let text = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
    let meaning = "The request's name; say it when you report a problem.";
    HeaderBuilder::new().schema(Some(text)).description(Some(meaning)).build()
}
